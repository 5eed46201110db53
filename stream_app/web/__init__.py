"""HTTP servers, their authentication and limits."""
