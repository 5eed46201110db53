"""Statistics of binned distributions, one per module: PSI, divergences, Kolmogorov-Smirnov."""
