"""Running and checking what ships, as a device does it: numpy and one runtime, never torch."""
