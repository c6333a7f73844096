"""Strategies: ``federation.strategy.name=NAME`` is the ``STRATEGY`` of the module NAME here."""
