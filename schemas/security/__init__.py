"""Who acts, from which host, and how texts and tokens are made safe."""
