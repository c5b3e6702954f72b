// Command kitex registers or resolves with Kitex's own registry-etcd, for the tests of Waypost's etcd back end.
//
//	kitex register 127.0.0.1:2379 payments 10.1.2.3:8080 20 version=2.1   until its input ends, then deregisters
//	kitex resolve 127.0.0.1:2379 payments                                 one line of JSON per instance
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/registry"
	etcd "github.com/kitex-contrib/registry-etcd"
)

func main() {
	var err error
	switch {
	case len(os.Args) >= 6 && os.Args[1] == "register":
		err = register(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6:])
	case len(os.Args) == 4 && os.Args[1] == "resolve":
		err = resolve(os.Args[2], os.Args[3])
	default:
		err = fmt.Errorf("usage: kitex register ENDPOINT SERVICE ADDRESS WEIGHT [KEY=VALUE…] | resolve ENDPOINT SERVICE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func register(endpoint, service, address, weight string, tags []string) error {
	r, err := etcd.NewEtcdRegistry([]string{endpoint})
	if err != nil {
		return err
	}
	where, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return err
	}
	share, err := strconv.Atoi(weight)
	if err != nil {
		return err
	}
	info := &registry.Info{ServiceName: service, Addr: where, Weight: share, Tags: map[string]string{}}
	for _, tag := range tags {
		name, value, _ := strings.Cut(tag, "=")
		info.Tags[name] = value
	}
	if err := r.Register(info); err != nil {
		return err
	}
	fmt.Println("registered")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return r.Deregister(info)
}

func resolve(endpoint, service string) error {
	r, err := etcd.NewEtcdResolver([]string{endpoint})
	if err != nil {
		return err
	}
	found, err := r.Resolve(context.Background(), service)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, instance := range found.Instances {
		if err := out.Encode(line(instance)); err != nil {
			return err
		}
	}
	return nil
}

func line(instance discovery.Instance) map[string]any {
	version, _ := instance.Tag("version")
	return map[string]any{
		"address": instance.Address().String(),
		"network": instance.Address().Network(),
		"weight":  instance.Weight(),
		"version": version,
	}
}
