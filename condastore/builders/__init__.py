"""How builds are made: child processes, and the story of a build."""
