"""Three forecasters to copy: `ten_lines` (a function), `forty_lines` (a class), `full` (all of the protocol)."""
