"""Statistics and policies over what was scored; knows neither Faust nor Kafka."""
