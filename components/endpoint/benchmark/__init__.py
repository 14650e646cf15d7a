"""What the endpoint costs beside the model, and how it holds many robots: `lingbot bench serve`."""
