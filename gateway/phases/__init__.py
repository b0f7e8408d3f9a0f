"""The steps of one request, one verb a file, in the order in which `gateway.flow` calls them."""
