"""A whole gateway under requests that nobody would write: made from the OpenAPI document, or not even HTTP."""
