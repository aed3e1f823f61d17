// Package sparkjob is about what runs again and again. [NameOf] says which job a driver's
// application is a run of. It is pure.
package sparkjob
