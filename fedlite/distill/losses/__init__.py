"""Losses: ``distill.loss=NAME`` is the ``build(options)`` of the module NAME here.

Each is a pure function of logits and labels, one value per example, behind
:class:`fedlite.distill.loss.Loss`.
"""
