"""What systemd and the daemon tell each other: readiness, sockets, the journal, and the unit."""
