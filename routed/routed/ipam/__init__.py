"""Addresses: blocks as values, and their durable assignment."""
