//go:build tools

// Package etcd names the program to build, so that go.mod and go.sum cover it.
package etcd

import _ "go.etcd.io/etcd/server/v3"
