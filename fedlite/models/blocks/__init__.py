"""Blocks that networks are stacked from: a stage's ``block`` NAME is the ``build`` of module NAME.

Every block takes (n, inputs, ...) to (n, outputs, ...) with one or two spatial dimensions; a
``stride`` of 2 halves them.
"""
