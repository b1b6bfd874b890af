"""What travels: values and bytes. Standard library, msgspec and fastavro only."""
