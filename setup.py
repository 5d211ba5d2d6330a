"""Everything about the package is in pyproject.toml; this only makes every build start from nothing.

setuptools copies into ``build/lib`` and never deletes there, so a module removed since an earlier build would come back
in the wheel.
"""

from pathlib import Path
from shutil import rmtree

from setuptools import setup

rmtree(Path(__file__).parent / "build" / "lib", ignore_errors=True)
# Named, because setuptools leaves its own script out of the package only if it knows what the script is called.
setup(script_name=Path(__file__).name)
