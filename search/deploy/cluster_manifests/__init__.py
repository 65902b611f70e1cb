"""Write manifests: containers, Kubernetes, groups of nodes, compose files, custom resources of Dynamo and KServe."""
