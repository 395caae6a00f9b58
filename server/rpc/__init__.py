"""gRPC: from messages to checked parameters, and from images back to messages."""
