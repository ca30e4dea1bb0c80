"""What the commands do, one file a command; `foresight.cli` calls them."""
