//go:build tools

// Package helm names the program to build, so that go.mod and go.sum cover it.
package helm

import _ "helm.sh/helm/v4/cmd/helm"
