"""What differs between families of decoders: their files, sizes, and names of layers."""
