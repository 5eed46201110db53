"""Commands on transactions, decisions and topics' records."""
