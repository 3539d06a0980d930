"""What workspaces, places and people chose: the settings there are (`table`), and which value holds (`resolve`)."""
