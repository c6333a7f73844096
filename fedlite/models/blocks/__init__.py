"""Blocks that networks are stacked from: a stage's ``block`` NAME is the ``build`` of module NAME.

    build(dims, inputs, outputs, stride, *, kernel_size, expansion, norm_name, activation_name)

makes a block that takes (n, inputs, ...) to (n, outputs, ...) with one or two spatial dimensions; a
``stride`` of 2 halves them.
"""
