package main

// How the parts talk: a child answers calls on its standard input and output until
// that is closed, which is also how it ends.

import (
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
)

// pipe joins two ends to a connection.
type pipe struct {
	io.Reader
	io.WriteCloser
}

// serve answers calls to what until the caller is gone.
func serve(name string, what any) error {
	s := rpc.NewServer()
	if err := s.RegisterName(name, what); err != nil {
		return err
	}
	s.ServeConn(pipe{os.Stdin, os.Stdout})
	return nil
}

// child is a process that answers calls.
type child struct {
	name string
	cmd  *exec.Cmd
	*rpc.Client
}

func start(name string) (*child, error) {
	c := self(name)
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &child{name, c, rpc.NewClient(pipe{out, in})}, nil
}

// call calls a method of the child.
func (c *child) call(method string, args, reply any) error {
	if err := c.Call(c.name+"."+method, args, reply); err != nil {
		return fmt.Errorf("%s %s: %w", c.name, method, err)
	}
	return nil
}

// used is the child's Usage.
func (c *child) used(settle bool) (u Usage, err error) {
	err = c.call("Usage", settle, &u)
	return u, err
}

// stop ends the child at once: it keeps nothing.
func (c *child) stop() {
	c.Client.Close()
	c.cmd.Process.Kill()
	c.cmd.Wait()
}
