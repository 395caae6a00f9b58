"""Servers of several processes: the supervisor, and the queue and memory that processes share."""
