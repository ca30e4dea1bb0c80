"""How far single weights will move: what is kept of them while a run begins, and forecasts made from that."""
