package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"time"
)

// entry is a file of an archive.
type entry struct {
	name string
	mode int64
	data []byte
}

// writeArchive packs the program with its licence: a .zip for Windows, a .tar.gz
// for the others. All dates are that of the commit.
func writeArchive(b binary, licence []byte, date time.Time, file string) error {
	program, err := os.ReadFile(b.file)
	if err != nil {
		return err
	}
	pack := writeTar
	if b.os == "windows" {
		pack = writeZip
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := pack(out, date, entry{filepath.Base(b.file), 0o755, program}, entry{"LICENSE", 0o644, licence}); err != nil {
		return err
	}
	return out.Close()
}

func writeTar(out io.Writer, date time.Time, files ...entry) error {
	zipped := gzip.NewWriter(out)
	w := tar.NewWriter(zipped)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: date, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return zipped.Close()
}

func writeZip(out io.Writer, date time.Time, files ...entry) error {
	w := zip.NewWriter(out)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: date.UTC()}
		header.SetMode(os.FileMode(f.mode))
		to, err := w.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := to.Write(f.data); err != nil {
			return err
		}
	}
	return w.Close()
}
