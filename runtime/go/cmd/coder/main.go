// Clips to token files and back; called as runtime/cpp/c/examples/coder.c.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"vidtok"
)

func encode(tok *vidtok.Tokenizer, clip, tokens string, numbers []int) error {
	file, err := os.Open(clip)
	if err != nil {
		return err
	}
	defer file.Close()
	writer, err := tok.Create(tokens, false, false)
	if err != nil {
		return err
	}
	defer writer.Close()
	stream, err := tok.Encode(bufio.NewReader(file), numbers[1], numbers[0], numbers[3])
	if err != nil {
		return err
	}
	defer stream.Encoder.Close()
	for stream.Next() {
		if err := writer.Append(stream.Tokens()); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return writer.Finish(stream.Encoder, vidtok.Times{FPS: vidtok.Fraction{Numerator: int64(numbers[2]), Denominator: 1}})
}

func decode(tok *vidtok.Tokenizer, tokens, clip string, chunk int) error {
	reader, err := vidtok.OpenFile(tokens)
	if err != nil {
		return err
	}
	defer reader.Close()
	if err := reader.Verify(); err != nil {
		return err
	}
	stream, err := tok.Decode(reader, chunk)
	if err != nil {
		return err
	}
	defer stream.Close()
	file, err := os.Create(clip)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	for stream.Next() {
		if err := binary.Write(out, binary.LittleEndian, stream.Frames().Pixels); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return file.Close()
}

func run(words []string) error {
	usage := errors.New("encode BUNDLE CLIP TOKENS WIDTH HEIGHT FPS CHUNK, or decode BUNDLE TOKENS CLIP CHUNK")
	if len(words) < 5 {
		return usage
	}
	numbers := []int{}
	for _, word := range words[4:] {
		n, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		numbers = append(numbers, n)
	}
	options := vidtok.Options{Provider: os.Getenv("VIDTOK_PROVIDER"), Threads: 1}
	if bytes, given := os.LookupEnv("VIDTOK_MAX_MEMORY"); given {
		n, err := strconv.ParseUint(bytes, 10, 64)
		if err != nil {
			return err
		}
		options.MaxMemory = n
	}
	tok, err := vidtok.Open(words[1], options)
	if err != nil {
		return err
	}
	defer tok.Close()
	switch {
	case words[0] == "encode" && len(numbers) == 4:
		return encode(tok, words[2], words[3], numbers)
	case words[0] == "decode" && len(numbers) == 1:
		return decode(tok, words[2], words[3], numbers[0])
	}
	return usage
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "coder:", err)
		os.Exit(1)
	}
}
