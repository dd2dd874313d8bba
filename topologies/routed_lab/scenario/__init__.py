"""Scenarios: what is done to a lab that is up, what has to hold meanwhile, and the report of what happened."""
