//go:build tools

// Package minio names the program to build, so that go.mod and go.sum cover it.
package minio

import _ "github.com/minio/minio"
