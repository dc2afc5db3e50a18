"""kdnas: small student teams of a fixed multi-agent teacher, under hard FLOPs, memory and latency budgets."""
