"""What tests share: tiny models, planted data, cases, process groups."""
