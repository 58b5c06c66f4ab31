// An ordinary program instrumented with the X-Ray SDK for Go. Prints the id of every entity it made.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-xray-sdk-go/strategy/sampling"
	"github.com/aws/aws-xray-sdk-go/xray"
)

var made []string

func note(ctx context.Context, segment *xray.Segment) (context.Context, *xray.Segment) {
	made = append(made, segment.ID)
	return ctx, segment
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Four levels, with annotations, metadata and a user.
func nested() {
	ctx, segment := note(xray.BeginSegment(context.Background(), "orders.example.com"))
	segment.User = "zoë"
	open := []*xray.Segment{segment}
	for depth := 0; depth < 4; depth++ {
		var level *xray.Segment
		ctx, level = note(xray.BeginSubsegment(ctx, fmt.Sprintf("level-%d", depth)))
		check(level.AddAnnotation("depth", depth))
		check(level.AddMetadataToNamespace("app", "value", map[string]interface{}{
			"text": "漢字 \u2028", "list": []interface{}{1, nil, 2.5}}))
		open = append(open, level)
	}
	for i := len(open) - 1; i >= 0; i-- {
		open[i].Close(nil)
	}
}

// Raised at the bottom, handled at the top.
func exception() {
	ctx, segment := note(xray.BeginSegment(context.Background(), "orders.example.com"))
	err := xray.Capture(ctx, "outer", func(ctx context.Context) error {
		note(ctx, xray.GetSegment(ctx))
		return xray.Capture(ctx, "inner", func(ctx context.Context) error {
			note(ctx, xray.GetSegment(ctx))
			return errors.New("no such order: 'x'")
		})
	})
	segment.Close(err)
}

// So many subsegments that the SDK sends them ahead of their segment.
func streamed() {
	ctx, segment := note(xray.BeginSegment(context.Background(), "batch-worker"))
	for i := 0; i < 60; i++ {
		row, rowSegment := note(xray.BeginSubsegment(ctx, fmt.Sprintf("row-%d", i)))
		_, store := note(xray.BeginSubsegment(row, "store"))
		store.Close(nil)
		rowSegment.Close(nil)
	}
	segment.Close(nil)
}

func main() {
	everything, err := sampling.NewLocalizedStrategyFromJSONBytes(
		[]byte(`{"version": 2, "default": {"fixed_target": 1000, "rate": 1}, "rules": []}`))
	check(err)
	check(xray.Configure(xray.Config{SamplingStrategy: everything}))
	nested()
	exception()
	streamed()
	check(json.NewEncoder(os.Stdout).Encode(made))
}
