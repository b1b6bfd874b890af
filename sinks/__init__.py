"""Where it goes: the connectors, their emulators, and the one sender that does their input and output."""
