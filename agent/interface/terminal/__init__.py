"""What a terminal asks for: texts that are shown and never obeyed, and Ctrl-C that is heard at any moment."""
