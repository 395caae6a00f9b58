"""What training makes of its data: families, likelihoods, modes and costs, each a script that prints its table."""
