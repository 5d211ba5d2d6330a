"""The frame around xDSL that every level shares: context, parser with locations, diagnostics, printing.

xDSL's private or fragile interfaces are used in this package and nowhere else.
"""
