"""Every format, converted, run and compared for real; see ``make test-formats``."""
