def network(n): pass
