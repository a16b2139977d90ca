"""What databases share: the frame that each of them fills."""
