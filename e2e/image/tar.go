package image

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// File is a file of a layer.
type File struct {
	Path string // without a leading slash
	Mode int64
	Data []byte
}

// WriteFiles makes a layer of files, owned by root and of no particular date.
func WriteFiles(layer string, files []File) error {
	return writeTar(layer, func(w *tar.Writer) error {
		for _, f := range files {
			err := w.WriteHeader(&tar.Header{Name: f.Path, Mode: f.Mode, Size: int64(len(f.Data)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
			if err != nil {
				return err
			}
			if _, err := w.Write(f.Data); err != nil {
				return err
			}
		}
		return nil
	})
}

// WriteFolder makes a layer of a folder's content, placed under a path.
func WriteFolder(layer, folder, under string) error {
	return writeTar(layer, func(w *tar.Writer) error {
		return filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || file == folder {
				return err
			}
			relative, err := filepath.Rel(folder, file)
			if err != nil {
				return err
			}
			return addFile(w, file, path.Join(under, relative), entry)
		})
	})
}

func addFile(w *tar.Writer, file, as string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name, header.Uid, header.Gid, header.Uname, header.Gname = as, 0, 0, "", ""
	header.Mode |= 0o444 | header.Mode&0o100/0o100*0o111 // any user of the image must be able to read it
	if err := w.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	data, err := os.Open(file)
	if err != nil {
		return err
	}
	defer data.Close()
	_, err = io.Copy(w, data)
	return err
}

func writeTar(path string, write func(*tar.Writer) error) error {
	file, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	defer file.Close()
	w := tar.NewWriter(file)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if same(path, path+".part") {
		return os.Remove(path + ".part") // the old one keeps its date
	}
	return os.Rename(path+".part", path)
}

func same(a, b string) bool {
	if stat, err := os.Stat(b); err != nil || stat.Size() > 64<<20 {
		return false // large layers are made once
	}
	before, errBefore := os.ReadFile(a)
	after, errAfter := os.ReadFile(b)
	return errBefore == nil && errAfter == nil && bytes.Equal(before, after)
}
