"""How it moves: the shell around the rules, and the only place where things are built."""
