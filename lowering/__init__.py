"""What goes one level down: ``<a>_to_<b>.py`` is a table of one rule per op, run by ``driver.py``."""
