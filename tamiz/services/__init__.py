"""The retrainer service, and code shared by commands and services."""
