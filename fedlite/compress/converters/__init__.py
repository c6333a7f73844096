"""Workers that turn an exported program into a file; each runs where its converter is installed.

They import torch, numpy and the converter, and of fedlite only what needs no more than that.
"""
