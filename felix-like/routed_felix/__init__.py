"""The route programmer: from best paths to kernel state."""
