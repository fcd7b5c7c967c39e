"""What is believed of the latents after the data: one guide a file, of the same name as its model."""
