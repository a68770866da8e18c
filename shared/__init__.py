"""What all services speak: the ledger, the pure domain rooms, the wire formats and the runtime beside them."""
