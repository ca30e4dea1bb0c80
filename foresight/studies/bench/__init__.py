"""How good forecasters are, on recorded runs that they have not learned from."""
