"""Three forecasters to copy: `ten_lines` (a function), `forty_lines` (a class), `full` (all that the contract has)."""
