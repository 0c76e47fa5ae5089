"""What the tests share: a real API server, a real cluster, servers of real wire protocols."""
