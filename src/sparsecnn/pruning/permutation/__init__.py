"""Channels in an order that costs N:M pruning less: the network computes the same."""
